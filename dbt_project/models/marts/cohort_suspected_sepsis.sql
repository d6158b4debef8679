{#-
  Grain: one ICU stay and score with a positive screen for sepsis: SIRS (Bone 1992) or qSOFA (Singer 2016) of 2 or more.
  Source: int_stay_score. It is a screen and no diagnosis: neither definition stands without a suspected infection, and
  cultures and antibiotics are not read from MIMIC, nor are white cells, so that SIRS rests on its other three parts.
  Missing data: a score counts by the least it can be; inputs that are missing or stale make nobody positive.
-#}
select
  stay_id,
  score,
  min(patient_id) as patient_id,
  min(observed_at) as onset_at,
  min_by(known_at, observed_at) as known_at,
  min_by(total_min, observed_at) as total_min
from {{ ref('int_stay_score') }}
where score in ('sirs', 'qsofa')
  and total_min >= 2
group by stay_id, score
