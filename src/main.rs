//! The `pagebox` program.

fn main() {
    if pagebox::sandbox::is_spawner() {
        pagebox::sandbox::spawner_main();
    }
}
