{#-
  The observations of a relation with the columns of silver.observation as they were known at an instant: of each the
  newest version recorded by then, without those entered in error by then. lakehouse/known_at.py has the same meaning;
  a test holds the two equal. `t` is a SQL expression:

    select * from {{ as_known_at(source('silver', 'observation'), "timestamp '2026-03-01T12:00:00Z'") }}
-#}
{% macro as_known_at(relation, t) -%}
(
  select * except (newest)
  from (
    select
      *,
      row_number() over (
        partition by observation_id
        order by recorded_at desc, topic desc, `partition` desc, `offset` desc, version desc
      ) as newest
    from {{ relation }}
    where recorded_at <= {{ t }}
  )
  where newest = 1
    and status <> 'entered-in-error'
)
{%- endmacro %}
