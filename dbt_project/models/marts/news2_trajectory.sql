{#-
  Grain: one ICU stay and instant at which its NEWS2 (Royal College of Physicians, 2017) says something new.
  Source: int_stay_score.
  Missing data: total is NULL where a missing or stale input could change it; total_min and total_max bound it then. A
  row stands until the next one, at most until the stay ends.
-#}
select
  stay_id,
  observed_at,
  patient_id,
  coalesce(lead(observed_at) over stay, ended_at) as stands_until,
  known_at,
  timestampdiff(second, started_at, observed_at) / 3600D as hours_since_start,
  total,
  total_min,
  total_max,
  risk,
  total - lag(total) over stay as change
from {{ ref('int_stay_score') }}
where score = 'news2'
window stay as (partition by stay_id order by observed_at)
