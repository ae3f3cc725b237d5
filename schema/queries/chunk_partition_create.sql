CREATE TABLE _promkeep.chunk_{{day}} (LIKE _promkeep.chunk INCLUDING DEFAULTS INCLUDING STORAGE, CHECK (start >= {{from}} AND start < {{to}}));
ALTER TABLE _promkeep.chunk ATTACH PARTITION _promkeep.chunk_{{day}} FOR VALUES FROM ({{from}}) TO ({{to}});
ALTER TABLE _promkeep.chunk_{{day}} DROP CONSTRAINT chunk_{{day}}_start_check
