//! The schema, one step after the other. A step that was released is never changed.

use rusqlite::Connection;

use super::Error;

/// Step `n` leads to `user_version` `n + 1`.
const STEPS: &[&str] = &[
    include_str!("migrations/keys.sql"),
    include_str!("migrations/sessions.sql"),
    include_str!("migrations/scrapes.sql"),
];

/// Brings a file up to date.
pub(super) fn apply(connection: &mut Connection, name: &str) -> Result<(), Error> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = found as usize;
    if found > STEPS.len() {
        return Err(Error::TooNew {
            path: name.to_owned(),
            found,
            known: STEPS.len(),
        });
    }
    for (index, step) in STEPS.iter().enumerate().skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(
            None,
            "user_version",
            u32::try_from(index + 1).unwrap_or(u32::MAX),
        )?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_applied_once_and_a_later_schema_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection, "x").unwrap();
        apply(&mut connection, "x").unwrap();
        let later = STEPS.len() + 1;
        connection
            .pragma_update(None, "user_version", u32::try_from(later).unwrap())
            .unwrap();
        let error = apply(&mut connection, "x").unwrap_err().to_string();
        let known = STEPS.len();
        assert_eq!(
            error,
            format!("x has schema {later}, this version knows up to {known}: use a newer Pagebox")
        );
    }
}
