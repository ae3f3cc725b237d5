SELECT s.id, s.started, s.ended, l.labels FROM _promkeep.series s JOIN _promkeep.label_set l ON l.id = s.id & 137438953471 WHERE s.ended IS NULL
