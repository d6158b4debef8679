{#-
  Grain: one care unit, rule and day (UTC): the alerts that told somebody on that day.
  Source: gold.alert; the day is that on which an alert became active, by the broker's clock.
  Missing data: alerts of patients whose unit is not told are of unit 'unknown'. A day without an alert has no row.
  Alerts that never became active told nobody and do not count.
-#}
select
  coalesce(location_unit, 'unknown') as care_unit,
  rule_id,
  cast(active_at as date) as day,
  min(category) as category,
  count(*) as alerts,
  count(distinct patient_id) as patients,
  count_if(priority = 'high') as high_priority,
  count(acknowledged_at) as acknowledged,
  percentile(timestampdiff(microsecond, active_at, acknowledged_at) / 1e6D, 0.5) as median_seconds_to_acknowledge,
  percentile(timestampdiff(microsecond, active_at, ended_at) / 1e6D, 0.5) as median_seconds_to_end,
  sum(escalations) as escalations,
  count_if(ended_at is null) as still_open
from {{ source('gold', 'alert') }}
where active_at is not null
group by coalesce(location_unit, 'unknown'), rule_id, cast(active_at as date)
