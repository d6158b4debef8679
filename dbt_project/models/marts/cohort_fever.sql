{#-
  Grain: one ICU stay with fever: temperature of 38.3 Cel or more.
  Source: vital_sign. The limit is that of SCCM and IDSA for new fever in intensive care (O'Grady 2008).
  Missing data: nothing is carried forward; a stay without such readings has no row.
-#}
{{ first_episode('temperature', '>= 38.3') }}
