{#-
  Grain: one adult: the first ICU stay that is known of the patient, at the age of 18 or more.
  Source: icu_stay.
  Missing data: a stay whose patient's age is not known is left out.
-#}
select stay_id, patient_id, admission_id, age, age_group, gender, started_at, ended_at, died_in_hospital
from {{ ref('icu_stay') }}
where stay_of_patient = 1
  and age_group <> '0-17'
