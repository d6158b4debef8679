"""The kinds of expectation that Great Expectations lacks: conditions in Spark SQL, counted in one pass; comparisons.

Great Expectations runs all aggregate metrics of a batch as one ``DataFrame.agg``, so a table with twenty rules is read
once. Its own ``UnexpectedRowsExpectation`` would read the table twice for each rule and treats ``{score}`` (a unit) as
a placeholder; its own uniqueness check windows over every row. Import this module inside functions only: it loads
Great Expectations, which takes seconds.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from great_expectations.core.metric_domain_types import MetricDomainTypes  # noqa: TID253
from great_expectations.core.metric_function_types import MetricPartialFunctionTypes  # noqa: TID253
from great_expectations.execution_engine import SparkDFExecutionEngine  # noqa: TID253
from great_expectations.expectations.expectation import BatchExpectation  # noqa: TID253
from great_expectations.expectations.metrics.metric_provider import metric_partial, metric_value  # noqa: TID253
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider  # noqa: TID253

from expectations import completeness, drift
from expectations.verdict import Verdict

if TYPE_CHECKING:
    from pyspark.sql import Column

_aggregate = metric_partial(
    engine=SparkDFExecutionEngine,
    partial_fn_type=MetricPartialFunctionTypes.AGGREGATE_FN,
    domain_type=MetricDomainTypes.TABLE,
)


class RowsBreaking(TableMetricProvider):  # type: ignore[misc]
    """How many rows break a condition. A condition that answers NULL counts as broken."""

    metric_name = "table.rows_breaking"
    value_keys = ("holds",)

    @_aggregate  # type: ignore[untyped-decorator]
    def _spark(
        cls,  # noqa: N805
        execution_engine: Any,  # noqa: ARG002
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],  # noqa: ARG002
        runtime_configuration: dict[str, Any],  # noqa: ARG002
    ) -> "tuple[Column, dict[str, Any], dict[str, Any]]":
        from pyspark.sql import functions

        broken = functions.expr(f"count_if(NOT coalesce({metric_value_kwargs['holds']}, false))")
        return broken, metric_domain_kwargs, {}


class TableHolds(TableMetricProvider):  # type: ignore[misc]
    """Whether a condition over aggregates of the whole table holds."""

    metric_name = "table.holds"
    value_keys = ("holds",)

    @_aggregate  # type: ignore[untyped-decorator]
    def _spark(
        cls,  # noqa: N805
        execution_engine: Any,  # noqa: ARG002
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],  # noqa: ARG002
        runtime_configuration: dict[str, Any],  # noqa: ARG002
    ) -> "tuple[Column, dict[str, Any], dict[str, Any]]":
        from pyspark.sql import functions

        return functions.expr(f"coalesce({metric_value_kwargs['holds']}, false)"), metric_domain_kwargs, {}


class RowsRepeating(TableMetricProvider):  # type: ignore[misc]
    """How many rows are there beside the first of their key."""

    metric_name = "table.rows_repeating"
    value_keys = ("columns",)

    @metric_value(engine=SparkDFExecutionEngine)  # type: ignore[untyped-decorator]
    def _spark(
        cls,  # noqa: N805
        execution_engine: Any,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],  # noqa: ARG002
        runtime_configuration: dict[str, Any],  # noqa: ARG002
    ) -> int:
        from pyspark.sql import functions

        rows, _, _ = execution_engine.get_compute_domain(metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE)
        per_key = rows.groupBy(*metric_value_kwargs["columns"]).agg(functions.count("*").alias("rows"))
        surplus = functions.coalesce(functions.sum(functions.col("rows") - 1), functions.lit(0))
        return int(per_key.agg(surplus).first()[0])


class Answer(TableMetricProvider):  # type: ignore[misc]
    """The rows of a query over the table, named ``{rows}`` in it. Expectations with the same query share its answer."""

    metric_name = "table.answer"
    value_keys = ("query",)

    @metric_value(engine=SparkDFExecutionEngine)  # type: ignore[untyped-decorator]
    def _spark(
        cls,  # noqa: N805
        execution_engine: Any,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],  # noqa: ARG002
        runtime_configuration: dict[str, Any],  # noqa: ARG002
    ) -> list[tuple[Any, ...]]:
        rows, _, _ = execution_engine.get_compute_domain(metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE)
        found = rows.sparkSession.sql(metric_value_kwargs["query"], rows=rows).collect()
        return [tuple(row) for row in found]


def _judged(verdict: Verdict) -> dict[str, Any]:
    found = {} if verdict.unexpected is None else {"unexpected_count": verdict.unexpected}
    return {"success": verdict.holds, "result": {"observed_value": verdict.said, **found}}


def _rows(unexpected: int, total: int) -> dict[str, Any]:
    return {
        "success": unexpected == 0,
        "result": {"observed_value": unexpected, "unexpected_count": unexpected, "element_count": total},
    }


class ExpectEveryRow(BatchExpectation):  # type: ignore[misc]
    """Every row keeps a condition, given as a Spark SQL expression over its columns."""

    holds: str
    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.row_count", "table.rows_breaking")
    success_keys: ClassVar[tuple[str, ...]] = ("holds",)

    def _validate(self, metrics: dict[str, Any], **_: Any) -> dict[str, Any]:
        return _rows(metrics["table.rows_breaking"], metrics["table.row_count"])


class ExpectUniqueKey(BatchExpectation):  # type: ignore[misc]
    """No two rows share the values of the key's columns."""

    columns: list[str]
    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.row_count", "table.rows_repeating")
    success_keys: ClassVar[tuple[str, ...]] = ("columns",)

    def _validate(self, metrics: dict[str, Any], **_: Any) -> dict[str, Any]:
        return _rows(metrics["table.rows_repeating"], metrics["table.row_count"])


class ExpectTable(BatchExpectation):  # type: ignore[misc]
    """The table as a whole keeps a condition, given as a Spark SQL expression over aggregates."""

    holds: str
    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.holds",)
    success_keys: ClassVar[tuple[str, ...]] = ("holds",)

    def _validate(self, metrics: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"success": bool(metrics["table.holds"]), "result": {"observed_value": metrics["table.holds"]}}


class ExpectSteadyValues(BatchExpectation):  # type: ignore[misc]
    """The values of one signal are distributed as they were before."""

    query: str
    code: str
    unit: str
    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.answer",)
    success_keys: ClassVar[tuple[str, ...]] = ("query", "code", "unit")

    def _validate(self, metrics: dict[str, Any], **_: Any) -> dict[str, Any]:
        return _judged(drift.values(drift.tally(metrics["table.answer"]), self.code, self.unit))


class ExpectSteadyShare(BatchExpectation):  # type: ignore[misc]
    """One signal makes up as much of all that is measured as it did before."""

    query: str
    code: str
    unit: str
    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.answer",)
    success_keys: ClassVar[tuple[str, ...]] = ("query", "code", "unit")

    def _validate(self, metrics: dict[str, Any], **_: Any) -> dict[str, Any]:
        return _judged(drift.share(drift.tally(metrics["table.answer"]), self.code, self.unit))


class ExpectWholeHours(BatchExpectation):  # type: ignore[misc]
    """Patients' hours have the minutes that their devices usually send."""

    query: str
    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.answer",)
    success_keys: ClassVar[tuple[str, ...]] = ("query",)

    def _validate(self, metrics: dict[str, Any], **_: Any) -> dict[str, Any]:
        return _judged(completeness.judged(metrics["table.answer"]))
