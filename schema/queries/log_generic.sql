-- The statements of the log keep their plans: planning one for each commit copies what is appended.
SET plan_cache_mode = force_generic_plan
