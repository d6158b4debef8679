{#-
  Grain: one ICU stay: smallest, largest and mean value of each vital sign on its first day.
  Source: int_stay_vital_sign. The first day is that of mimic-code, which differs by edition:
    MIMIC-III (vitals_first_day): after the start up to 24 hours later, over single values;
    MIMIC-IV (first_day_vitalsign) and all others: from 6 hours before the start up to 24 hours after it, over the mean
    of each instant.
  Missing data: every stay has a row; NULL where a vital sign was not charted on the first day.
-#}
with reading as (

  select stay_id, vital_sign, {{ mean('value') }} as value
  from {{ ref('int_stay_vital_sign') }}
  where observed_at <= started_at + interval 24 hours
    and case
      when source = 'mimic-iii' then observed_at > started_at
      else observed_at >= started_at - interval 6 hours
    end
  group by stay_id, vital_sign, observed_at, case when source = 'mimic-iii' then observation_id end

)

select
  icu_stay.stay_id,
  icu_stay.patient_id,
  {%- for sign in vital_signs() %}
  {%- set value = "case when reading.vital_sign = '" ~ sign.name ~ "' then reading.value end" %}
  min({{ value }}) as {{ sign.name }}_min,
  max({{ value }}) as {{ sign.name }}_max,
  {{ mean(value) }} as {{ sign.name }}_mean
  {{- ',' if not loop.last }}
  {%- endfor %}
from {{ ref('icu_stay') }} as icu_stay
left join reading on icu_stay.stay_id = reading.stay_id
group by icu_stay.stay_id, icu_stay.patient_id
