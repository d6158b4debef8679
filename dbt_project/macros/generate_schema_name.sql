{#- A model's schema is the one it names: mart, not mart_mart. It is also the folder its table lies in. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
