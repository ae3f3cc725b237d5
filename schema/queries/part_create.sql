-- Made outside and attached afterwards: attaching does not wait for readers of the parent, creating in place would.
CREATE TABLE _promkeep.recent_{{part}} (LIKE _promkeep.recent INCLUDING DEFAULTS INCLUDING STORAGE, CHECK (part = {{part}}));
ALTER TABLE _promkeep.recent ATTACH PARTITION _promkeep.recent_{{part}} FOR VALUES IN ({{part}});
ALTER TABLE _promkeep.recent_{{part}} DROP CONSTRAINT recent_{{part}}_part_check
