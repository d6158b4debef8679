{#-
  Grain: one patient, in the current version.
  Source: silver.patient (FHIR R4 Patient).
  Missing data: NULL where the source does not say. birth_date is NULL where only the year of birth is known.
-#}
select
  patient_id,
  gender,
  birth_year,
  birth_date,
  deceased_on,
  source,
  recorded_at
from ({{ current_version(source('silver', 'patient'), 'patient_id') }})
