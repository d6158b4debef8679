{#-
  Grain: one ICU stay and instant at which at least one vital sign was charted; several values of one vital sign at one
  instant are averaged.
  Source: int_stay_vital_sign. Answers as mimic-code's vitalsign (MIMIC-IV) and pivoted_vital (MIMIC-III) do;
  docs/cohorts.md lists where they differ.
  Missing data: NULL where a vital sign was not charted at that instant, or its value is in quarantine. An instant
  without any value has no row; nothing is carried forward.
-#}
select
  stay_id,
  observed_at,
  min(patient_id) as patient_id,
  -- MIMIC-III has values that were stored before they were measured.
  greatest(observed_at, max(recorded_at)) as known_at,
  {%- for sign in vital_signs() %}
  {{ mean("case when vital_sign = '" ~ sign.name ~ "' then value end") }} as {{ sign.name }},
  {%- endfor %}
  {%- for name in ['systolic_bp', 'diastolic_bp', 'mean_bp'] %}
  {{ mean("case when vital_sign = '" ~ name ~ "' and by_cuff then value end") }} as {{ name }}_cuff
  {{- ',' if not loop.last }}
  {%- endfor %}
from {{ ref('int_stay_vital_sign') }}
group by stay_id, observed_at
