UPDATE _promkeep.retention SET erased_before = $1::int8 - keep WHERE erased_before <> $1::int8 - keep
