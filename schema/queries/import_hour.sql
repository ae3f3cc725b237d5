-- Before the series of an import are noted to end at $1: who ends a series for another reason ends it no earlier than that.
UPDATE _promkeep.leader SET imported_hour = $1 WHERE imported_hour < $1
