{#-
  Grain: one stay in an intensive care unit that has begun.
  Source: stg_encounter of class ACUTE.
  Missing data: an encounter without a start has no row; ended_at is NULL while the stay lasts.
-#}
select
  encounter_id as stay_id,
  patient_id,
  part_of as admission_id,
  source,
  location as care_unit,
  started_at,
  ended_at
from {{ ref('stg_encounter') }}
where encounter_class = 'ACUTE'
  and started_at is not null
