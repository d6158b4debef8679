{#-
  Grain: one ICU stay with hypotension: mean blood pressure below 65 mm[Hg] at two readings in a row.
  Source: vital_sign. The limit is the target of the Surviving Sepsis Campaign (2021).
  Missing data: nothing is carried forward; a stay without such readings has no row.
-#}
{{ first_episode('mean_bp', '< 65', readings=2) }}
