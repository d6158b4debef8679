{#-
  Grain: one patient, code and hour of observation (UTC).
  Source: current versions of silver.observation with a numeric value; values are in the unit the code is kept in.
  Missing data: an hour without a value has no row; nothing is carried forward or filled in.
-#}
with hourly as (

  select
    patient_id,
    code,
    date_trunc('hour', observed_at) as hour,
    first(unit) as unit,
    count(*) as count,
    min(value) as min,
    -- Doubles summed in another order give another last digit; decimals do not. A value too large for one (of a signal
    -- without an upper bound) falls back to the plain mean.
    case
      when max(value) < 1e12 then cast(sum(try_cast(value as decimal(18, 6))) as double) / count(*)
      else avg(value)
    end as mean,
    max(value) as max
  from {{ ref('stg_observation') }}
  where value is not null
  group by patient_id, code, date_trunc('hour', observed_at)

)

-- A quotient of doubles may leave [min, max] by one unit in the last place.
select patient_id, code, hour, unit, count, min, least(greatest(mean, min), max) as mean, max
from hourly
