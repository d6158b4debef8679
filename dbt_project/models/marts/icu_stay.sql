{#-
  Grain: one stay in an intensive care unit.
  Source: int_stay, with the admission of stg_encounter that it is part of, and stg_patient.
  Missing data: a stay without an admission or a patient keeps its row, with NULL for what they would have said. A stay
  or admission that has not ended has NULL for its end and length. Ages above 89 are one group and have no number
  (HIPAA Safe Harbor, and MIMIC-III moves those births 300 years back).
-#}
with with_context as (

  select
    stay.*,
    admission.started_at as admitted_at,
    admission.ended_at as discharged_at,
    admission.encounter_type as admission_type,
    admission.admit_source as admitted_from,
    admission.discharge_disposition as discharged_to,
    admission.died as died_in_hospital,
    -- MIMIC leaves the instant of some deaths open: the admission ended with them.
    case when admission.died then coalesce(admission.died_at, admission.ended_at) end as hospital_death_at,
    patient.gender,
    patient.deceased_on,
    -- Where only the year of birth is known, as in MIMIC-IV, the age is that of mimic-code: the difference of years.
    case
      when patient.birth_date is not null
        then timestampdiff(year, patient.birth_date, coalesce(admission.started_at, stay.started_at))
      else year(coalesce(admission.started_at, stay.started_at)) - patient.birth_year
    end as years
  from {{ ref('int_stay') }} as stay
  left join {{ ref('stg_encounter') }} as admission
    on stay.admission_id = admission.encounter_id
  left join {{ ref('stg_patient') }} as patient
    on stay.patient_id = patient.patient_id

)

select
  stay_id,
  patient_id,
  admission_id,
  source,
  gender,
  cast(case when years < 90 then years end as int) as age,
  case
    when years < 18 then '0-17'
    when years < 45 then '18-44'
    when years < 65 then '45-64'
    when years < 80 then '65-79'
    when years < 90 then '80-89'
    when years >= 90 then '90+'
  end as age_group,
  care_unit,
  started_at,
  ended_at,
  timestampdiff(second, started_at, ended_at) / 86400D as length_of_stay_days,
  admitted_at,
  discharged_at,
  admission_type,
  admitted_from,
  discharged_to,
  -- A stay without an admission is told apart by its own id.
  cast(row_number() over (
    partition by patient_id, coalesce(admission_id, stay_id) order by started_at, stay_id
  ) as int) as stay_of_admission,
  cast(row_number() over (partition by patient_id order by started_at, stay_id) as int) as stay_of_patient,
  died_in_hospital,
  hospital_death_at,
  deceased_on
from with_context
