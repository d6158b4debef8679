{#-
  Name every declared table of the data dir in the catalog of a server, by its folder. Once, and again when there is a new
  one: `ward dbt run-operation register_tables --target server`. `ward dbt` does the same for its own session.
-#}
{% macro register_tables() -%}
  {%- set root = env_var('WARD_LAKE', env_var('WARD_DATA_DIR', '.ward')) ~ '/tables' -%}
  {%- set root = root if '://' in root else 'file://' ~ root -%}
  {%- for source in graph.sources.values() %}
    {%- do run_query('create schema if not exists ' ~ source.schema) -%}
    {%- do run_query(
      'create table if not exists ' ~ source.schema ~ '.' ~ source.name
      ~ " using delta location '" ~ root ~ '/' ~ source.schema ~ '/' ~ source.name ~ "'"
    ) -%}
  {%- endfor %}
  {%- do run_query('create schema if not exists ' ~ target.schema) -%}
{%- endmacro %}
