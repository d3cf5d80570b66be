-- What the endpoints of a task had to be, a JSON object (match, exclude, percent, limit, seed); see src/domain/target.rs.
ALTER TABLE task ADD COLUMN target TEXT NULL;
