UPDATE _promkeep.part SET opened_at = opened_at - interval '1 day'
