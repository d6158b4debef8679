{#-
  Grain: one measured value, in its current version. Values entered in error are left out.
  Source: silver.observation. Versions order by the time they became known, then by where they stand in bronze.
  Missing data: a value that was never sent, or that is in quarantine, has no row.
-#}
with versions as (

  select
    *,
    row_number() over (
      partition by observation_id
      order by recorded_at desc, topic desc, `partition` desc, `offset` desc, version desc
    ) as newest
  from {{ source('silver', 'observation') }}

)

select
  observation_id,
  patient_id,
  encounter_id,
  device_id,
  source,
  location_unit,
  location_bed,
  code,
  value,
  value_code,
  unit,
  status,
  observed_at,
  received_at,
  recorded_at
from versions
where newest = 1
  and status <> 'entered-in-error'
