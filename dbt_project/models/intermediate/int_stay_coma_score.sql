{#-
  Grain: one instant of an ICU stay at which a part of the Glasgow coma score was charted; of several values of a part at
  one instant the largest.
  Source: stg_observation, joined with int_stay by the stay that the message names, as for vital signs.
  Missing data: NULL for a part that was not charted at that instant. Verbal is 0 where a tube kept the patient from
  speaking. previous_ columns are the instant before, where it is less than six hours ago.
-#}
{%- set parts = {'eye': '9267-6', 'verbal': '9270-0', 'motor': '9268-4'} -%}
with charted as (

  select
    stay.stay_id,
    stay.patient_id,
    observation.observed_at,
    max(observation.recorded_at) as recorded_at,
    {%- for part, code in parts.items() %}
    max(case when observation.code = '{{ code }}' then observation.value end) as {{ part }}
    {{- ',' if not loop.last }}
    {%- endfor %}
  from {{ ref('stg_observation') }} as observation
  inner join {{ ref('int_stay') }} as stay
    on observation.encounter_id = stay.stay_id
    and observation.patient_id = stay.patient_id
  where observation.value is not null
    and observation.code in ('{{ parts.values() | join("', '") }}')
  group by stay.stay_id, stay.patient_id, observation.observed_at

),

with_previous as (

  select
    *,
    {%- for column in ['observed_at', 'recorded_at', 'eye', 'verbal', 'motor'] %}
    lag({{ column }}) over (partition by stay_id order by observed_at) as previous_{{ column }}
    {{- ',' if not loop.last }}
    {%- endfor %}
  from charted

)

select
  stay_id,
  patient_id,
  observed_at,
  recorded_at,
  eye,
  verbal,
  motor,
  {%- for column in ['recorded_at', 'eye', 'verbal', 'motor'] %}
  case when previous_observed_at > observed_at - interval 6 hours then previous_{{ column }} end as previous_{{ column }}
  {{- ',' if not loop.last }}
  {%- endfor %}
from with_previous
