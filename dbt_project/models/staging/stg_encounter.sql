{#-
  Grain: one encounter that took place or takes place, in its current version: an admission (IMP) or a stay (ACUTE).
  Source: silver.encounter (FHIR R4 Encounter); died_at is the instant of death that MIMIC gives with an admission.
  Missing data: NULL where the source does not say. Encounters planned, cancelled or entered in error are left out.
-#}
select
  encounter_id,
  patient_id,
  part_of,
  status,
  `class` as encounter_class,
  type as encounter_type,
  location,
  started_at,
  ended_at,
  admit_source,
  discharge_disposition,
  died,
  try_cast(
    get(
      filter(
        from_json(resource, 'extension array<struct<url: string, valueDateTime: string>>').extension,
        extension -> extension.url = 'urn:wardhouse:deathtime'
      ),
      0
    ).valueDateTime as timestamp
  ) as died_at,
  source,
  recorded_at
from ({{ current_version(source('silver', 'encounter'), 'encounter_id') }})
where status not in ('planned', 'cancelled', 'entered-in-error')
