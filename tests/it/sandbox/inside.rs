//! What a program sees and may do inside.

use super::harness::*;

#[tokio::test]
async fn a_program_runs_as_uid_1000_in_its_own_world() {
    let sandboxes = start();
    let space = sandboxes.create_space(space_spec()).await.unwrap();
    let out = output(&space, "id -u; id -g; id -G; echo $$; hostname; pwd; ls /; echo /proc/[0-9]*").await;
    println!("{out}");
    space.close().await.unwrap();
    sandboxes.shutdown().await;
}
