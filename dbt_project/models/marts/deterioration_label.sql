{#-
  Grain: one ICU stay and landmark: every four hours from its start (NEWS2 asks for observations at least that often of
  most patients) until it ends or the patient dies.
  Source: icu_stay for the event, which is death in hospital; vital_sign and news2_trajectory for what was known.
  Beside the label stands only what was measured in the 24 hours before the landmark and recorded by then. A value that
  was corrected later is left out, since its first version was wrong and its second not yet known.
  Missing data: NULL where nothing was known of a vital sign or score. The label is NULL while the outcome is open or
  not told; leaving hospital alive within the 24 hours counts as no event.
-#}
with landmark as (

  select
    stay_id,
    patient_id,
    started_at,
    hospital_death_at,
    discharged_at,
    died_in_hospital,
    explode(sequence(
      started_at + interval 4 hours,
      least(ended_at, hospital_death_at) - interval 1 microsecond,
      interval 4 hours
    )) as landmark_at
  from {{ ref('icu_stay') }}
  where ended_at is not null
    and least(ended_at, hospital_death_at) > started_at + interval 4 hours

),

known_vital_sign as (

  select
    landmark.stay_id,
    landmark.landmark_at,
    {%- for sign in vital_signs() %}
    max_by(vital_sign.{{ sign.name }}, vital_sign.observed_at)
      filter (where vital_sign.{{ sign.name }} is not null) as {{ sign.name }}
    {{- ',' if not loop.last }}
    {%- endfor %}
  from landmark
  inner join {{ ref('vital_sign') }} as vital_sign
    on landmark.stay_id = vital_sign.stay_id
    and vital_sign.observed_at > landmark.landmark_at - interval 24 hours
    and vital_sign.known_at <= landmark.landmark_at
  group by landmark.stay_id, landmark.landmark_at

),

known_score as (

  select
    landmark.stay_id,
    landmark.landmark_at,
    max_by(score.total_min, score.observed_at) as news2_min,
    max_by(score.total_max, score.observed_at) as news2_max
  from landmark
  inner join {{ ref('news2_trajectory') }} as score
    on landmark.stay_id = score.stay_id
    and score.observed_at > landmark.landmark_at - interval 24 hours
    and score.known_at <= landmark.landmark_at
  group by landmark.stay_id, landmark.landmark_at

)

select
  stay_id,
  landmark_at,
  landmark.patient_id,
  timestampdiff(second, landmark.started_at, landmark_at) / 3600D as hours_since_start,
  {%- for sign in vital_signs() %}
  known_vital_sign.{{ sign.name }},
  {%- endfor %}
  known_score.news2_min,
  known_score.news2_max,
  timestampdiff(second, landmark_at, landmark.hospital_death_at) / 3600D as hours_to_death,
  case
    when landmark.hospital_death_at is not null
      then landmark.hospital_death_at <= landmark_at + interval 24 hours
    when not landmark.died_in_hospital and landmark.discharged_at is not null then false
  end as death_within_24_hours
from landmark
left join known_vital_sign using (stay_id, landmark_at)
left join known_score using (stay_id, landmark_at)
