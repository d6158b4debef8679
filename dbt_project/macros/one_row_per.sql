{#- A data test: the columns together are a key. It answers keys that lack a part or that more than one row has. -#}
{% test one_row_per(model, columns) %}
select {{ columns | join(', ') }}, count(*) as rows_of_key
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
  {%- for column in columns %}
  or {{ column }} is null
  {%- endfor %}
{% endtest %}
