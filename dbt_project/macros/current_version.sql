{#-
  The newest version of each row of a versioned table, every column of it. Versions order by the time they became
  known, then by where they stand in bronze.
-#}
{% macro current_version(relation, id) -%}
select * from (
  select
    *,
    row_number() over (
      partition by {{ id }}
      order by recorded_at desc, topic desc, `partition` desc, `offset` desc, version desc
    ) as newest
  from {{ relation }}
)
where newest = 1
{%- endmacro %}
