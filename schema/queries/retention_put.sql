INSERT INTO _promkeep.retention (number, tenant, matchers, keep, erased_before) VALUES ($1, $2, $3, $4, $5)
