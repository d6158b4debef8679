{#-
  Grain: one measured value, in its current version. Values entered in error are left out.
  Source: silver.observation.
  Missing data: a value that was never sent, or that is in quarantine, has no row.
-#}
select
  observation_id,
  patient_id,
  encounter_id,
  device_id,
  source,
  location_unit,
  location_bed,
  code,
  source_code,
  value,
  value_code,
  unit,
  status,
  observed_at,
  received_at,
  recorded_at
from ({{ current_version(source('silver', 'observation'), 'observation_id') }})
where status <> 'entered-in-error'
