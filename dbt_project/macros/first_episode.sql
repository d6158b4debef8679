{#-
  The first episode of each ICU stay in which a vital sign meets a condition: an unbroken run of readings, none of them
  more than four hours behind the one before (vital signs are charted at least that often in intensive care). It is
  confirmed by the reading with which it has ``readings`` of them and lasts ``minutes``; what comes later counts for
  nothing, so a cohort tells no more than was so by then.
-#}
{% macro first_episode(vital_sign, condition, readings=1, minutes=0) -%}
with reading as (

  select
    *,
    {{ vital_sign }} {{ condition }} as meets,
    observed_at > lag(observed_at) over (partition by stay_id order by observed_at) + interval 4 hours as after_gap
  from {{ ref('vital_sign') }}
  where {{ vital_sign }} is not null

),

-- Readings that meet the condition share a number until one that does not, or a gap, comes between.
numbered as (

  select
    *,
    sum(case when not meets or after_gap then 1 else 0 end) over (
      partition by stay_id order by observed_at rows unbounded preceding
    ) as run
  from reading

),

so_far as (

  select
    stay_id,
    patient_id,
    observed_at,
    {{ vital_sign }} as value,
    min(observed_at) over run_so_far as onset_at,
    max(known_at) over run_so_far as known_at,
    count(*) over run_so_far as readings
  from numbered
  where meets
  window run_so_far as (partition by stay_id, run order by observed_at rows unbounded preceding)

)

select
  stay_id,
  min(patient_id) as patient_id,
  min_by(onset_at, observed_at) as onset_at,
  min(observed_at) as confirmed_at,
  min_by(known_at, observed_at) as known_at,
  min_by(value, observed_at) as value
from so_far
where readings >= {{ readings }}
  and observed_at >= onset_at + interval {{ minutes }} minutes
group by stay_id
{%- endmacro %}
