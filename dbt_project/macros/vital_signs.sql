{#-
  The vital signs of a research table: column, LOINC codes that are it. The choice is that of mimic-code
  (MIT-LCP/mimic-code, mimic-iv/concepts/measurement/vitalsign.sql); ranges and units are silver's.
-#}
{% macro vital_signs() -%}
{{ return([
  {'name': 'heart_rate', 'codes': ['8867-4']},
  {'name': 'systolic_bp', 'codes': ['8480-6']},
  {'name': 'diastolic_bp', 'codes': ['8462-4']},
  {'name': 'mean_bp', 'codes': ['8478-0']},
  {'name': 'respiratory_rate', 'codes': ['9279-1']},
  {'name': 'temperature', 'codes': ['8310-5']},
  {'name': 'spo2', 'codes': ['59408-5', '2708-6']},
  {'name': 'glucose', 'codes': ['2339-0']},
]) }}
{%- endmacro %}

{#- Items of MIMIC that chart a cuff's pressure, of CareVue (455, 8441, 456, 442, 8440, 443) and MetaVision. -#}
{% macro cuff_items() -%}
'455', '8441', '456', '442', '8440', '443', '220179', '220180', '220181'
{%- endmacro %}

{#- The code of an observation as the vital sign it is; NULL for any other. -#}
{% macro vital_sign_of(code) -%}
case
  {%- for sign in vital_signs() %}
  when {{ code }} in ('{{ sign.codes | join("', '") }}') then '{{ sign.name }}'
  {%- endfor %}
end
{%- endmacro %}
