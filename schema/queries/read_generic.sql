-- Statements of this transaction that follow keep the plan that was made for them. Others are planned anew each time: days of chunk are left out by the planner, and a
-- plan for all times would have hundreds of them.
SET LOCAL plan_cache_mode = force_generic_plan
