{#-
  Grain: one patient, code and hour of observation (UTC).
  Source: current versions of silver.observation with a numeric value; values are in the unit the code is kept in.
  Missing data: an hour without a value has no row; nothing is carried forward or filled in.
-#}
select
  patient_id,
  code,
  date_trunc('hour', observed_at) as hour,
  first(unit) as unit,
  count(*) as count,
  min(value) as min,
  {{ mean('value') }} as mean,
  max(value) as max
from {{ ref('stg_observation') }}
where value is not null
group by patient_id, code, date_trunc('hour', observed_at)
