{#-
  Grain: one ICU stay and instant at which a part of the Glasgow coma score was charted.
  Source: int_stay_coma_score. Answers as mimic-code's gcs (MIMIC-IV) and pivoted_gcs (MIMIC-III) do.
  Missing data: a part that was not charted is that of the instant before, where it is less than six hours ago; the total
  takes one that is unknown even then as normal. A patient with a tube cannot speak and is mostly sedated: the total is
  15, and nothing from then is carried to the first instant without it.
-#}
select
  stay_id,
  observed_at,
  patient_id,
  greatest(observed_at, recorded_at, previous_recorded_at) as known_at,
  case
    when verbal = 0 or (verbal is null and previous_verbal = 0) then 15.0
    when previous_verbal = 0 then coalesce(eye, 4) + coalesce(verbal, 5) + coalesce(motor, 6)
    else coalesce(eye, previous_eye, 4) + coalesce(verbal, previous_verbal, 5) + coalesce(motor, previous_motor, 6)
  end as total,
  coalesce(eye, previous_eye) as eye,
  coalesce(verbal, previous_verbal) as verbal,
  coalesce(motor, previous_motor) as motor,
  coalesce(verbal = 0, false) as intubated
from {{ ref('int_stay_coma_score') }}
