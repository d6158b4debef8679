{#-
  Grain: one ICU stay with hypoxaemia: SpO2 below 90 % at two readings in a row.
  Source: vital_sign. The limit is that of the WHO (Pulse oximetry training manual, 2011) and of the adult rule pack; a
  single low reading is most often a sensor that has slipped.
  Missing data: nothing is carried forward; a stay without such readings has no row.
-#}
{{ first_episode('spo2', '< 90', readings=2) }}
