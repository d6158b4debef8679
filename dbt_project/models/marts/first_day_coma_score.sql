{#-
  Grain: one ICU stay: the smallest total of the Glasgow coma score on its first day, and the parts at that instant.
  Source: coma_score, from the start of the stay until 24 hours later. Answers as mimic-code's gcs_first_day does.
  Missing data: every stay has a row; NULL where no part was charted on the first day.
-#}
with lowest as (

  select
    score.*,
    row_number() over (partition by score.stay_id order by score.total, score.observed_at) as nth
  from {{ ref('coma_score') }} as score
  inner join {{ ref('int_stay') }} as stay
    on score.stay_id = stay.stay_id
    and score.observed_at between stay.started_at and stay.started_at + interval 24 hours

)

select
  icu_stay.stay_id,
  icu_stay.patient_id,
  lowest.total as total_min,
  lowest.eye,
  lowest.verbal,
  lowest.motor,
  lowest.intubated
from {{ ref('icu_stay') }} as icu_stay
left join lowest on icu_stay.stay_id = lowest.stay_id and lowest.nth = 1
