//! A service of which one answer in ten is slow, with a second attempt beside those.

use std::time::Duration;

use buttress_retry_backoff::hedge::{Hedge, HedgeDelay};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hedge = Hedge::new("search", HedgeDelay::After(Duration::from_millis(20)), 1)?;
    let mut asked = 0_u32;
    for call in 0..20 {
        hedge
            .call(|| {
                asked += 1;
                let slow = asked.is_multiple_of(10);
                async move {
                    let takes = Duration::from_millis(if slow { 500 } else { 5 });
                    tokio::time::sleep(takes).await;
                    Ok::<_, std::io::Error>(call)
                }
            })
            .await?;
    }
    println!("20 calls made {asked} attempts, and none took half a second");
    Ok(())
}
