{#-
  Grain: one instant of an ICU stay at which an early warning score says something new.
  Source: gold.early_warning_score, by patient and time: from the start of the stay until its end. known_at is when the
  last of the values that the score is made of became known.
  Missing data: a score that stood before the stay and did not change in it has no row. A score whose inputs are stale
  has total_min < total_max, and no total.
-#}
with input as (

  select patient_id, score, observed_at, explode(inputs.observation_id) as observation_id
  from {{ source('gold', 'early_warning_score') }}

),

known as (

  select input.patient_id, input.score, input.observed_at, max(observation.recorded_at) as recorded_at
  from input
  inner join {{ ref('stg_observation') }} as observation
    on input.observation_id = observation.observation_id
  group by input.patient_id, input.score, input.observed_at

)

select
  stay.stay_id,
  stay.patient_id,
  stay.started_at,
  stay.ended_at,
  score.score,
  score.observed_at,
  greatest(score.observed_at, known.recorded_at) as known_at,
  score.total,
  score.total_min,
  score.total_max,
  score.risk
from {{ source('gold', 'early_warning_score') }} as score
inner join {{ ref('int_stay') }} as stay
  on score.patient_id = stay.patient_id
  and score.observed_at >= stay.started_at
  and (score.observed_at < stay.ended_at or stay.ended_at is null)
left join known
  on score.patient_id = known.patient_id
  and score.score = known.score
  and score.observed_at = known.observed_at
