{#-
  The mean of a number, NULL where there is none. Doubles summed in another order give another last digit; decimals do
  not. A value too large for one (of a signal without an upper bound) falls back to the plain mean. A quotient of
  doubles may leave the smallest and the largest value by one unit in the last place, hence the bounds.
-#}
{% macro mean(value) -%}
least(greatest(
  case
    when max({{ value }}) < 1e12
      then cast(sum(try_cast({{ value }} as decimal(24, 12))) as double) / count({{ value }})
    else avg({{ value }})
  end,
  min({{ value }})), max({{ value }}))
{%- endmacro %}
