{#-
  Grain: one value of a vital sign that was charted for an ICU stay.
  Source: stg_observation, joined with int_stay by the stay that the message names, as mimic-code does, and not by
  time: MIMIC charts some values of a stay before it begins and after it ends.
  Missing data: a value whose message names no stay, or an admission only, has no row.
-#}
select
  stay.stay_id,
  stay.patient_id,
  stay.source,
  stay.started_at,
  observation.observation_id,
  observation.observed_at,
  observation.recorded_at,
  {{ vital_sign_of('observation.code') }} as vital_sign,
  coalesce(observation.source_code in ({{ cuff_items() }}), false) as by_cuff,
  observation.value
from {{ ref('stg_observation') }} as observation
inner join {{ ref('int_stay') }} as stay
  on observation.encounter_id = stay.stay_id
  and observation.patient_id = stay.patient_id
where observation.value is not null
  and {{ vital_sign_of('observation.code') }} is not null
