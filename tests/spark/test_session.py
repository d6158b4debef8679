"""The settings of the session, where what they are chosen for could break."""


def test_rows_larger_than_a_page_of_memory_are_sorted_joined_and_grouped(spark):
    wide = spark.range(6).selectExpr("id % 3 AS id", "repeat(CAST(id AS STRING), 2 * 1024 * 1024) AS value")
    assert spark.sparkContext.getConf().get("spark.buffer.pageSize") == "1m"

    broadcast = (
        wide.alias("a").join(wide.hint("broadcast").alias("b"), "id").selectExpr("a.value AS value", "b.id AS id")
    )
    merged = wide.hint("merge").alias("a").join(wide.hint("merge").alias("b"), "id").selectExpr("a.value AS value")

    assert [len(row.value) for row in wide.repartition(2).sort("value", "id").collect()] == [2 * 1024 * 1024] * 6
    assert broadcast.selectExpr("sum(length(value))").first()[0] == 12 * 2 * 1024 * 1024
    assert merged.selectExpr("sum(length(value))").first()[0] == 12 * 2 * 1024 * 1024
    assert sorted(len(row.value) for row in wide.groupBy("value").count().collect()) == [2 * 1024 * 1024] * 6
