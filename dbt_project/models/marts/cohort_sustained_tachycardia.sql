{#-
  Grain: one ICU stay with sustained tachycardia: heart rate above 120 /min for an hour.
  Source: vital_sign. The limit is that of the adult rule pack.
  Missing data: nothing is carried forward; a stay without such readings has no row.
-#}
{{ first_episode('heart_rate', '> 120', readings=2, minutes=60) }}
