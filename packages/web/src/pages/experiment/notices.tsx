import type { StatusResponse } from '@mlx-training/sdk'
import { ago } from '../../format.ts'

/** What somebody should know before they look at numbers: why it ended, what was odd on the way. */
export function Notices({ status }: { status: StatusResponse }) {
  const { status: state, reason, last_interruption: interruption, warnings, serving_verified: verified } = status
  return (
    <>
      {reason && (
        <p class={`notice reason ${state === 'failed' ? 'bad' : state === 'completed' ? 'good' : 'warning'}`}>
          {reason}
        </p>
      )}
      {interruption && (
        <p class="notice reason">
          Attempt {interruption.attempt} ended {ago(interruption.at)}, and the run went on by itself:{' '}
          {interruption.reason}
        </p>
      )}
      {verified === false && (
        <p class="notice bad">
          Loaded to generate, the result did not pass the check that it behaves as in training. The warnings say what
          was seen.
        </p>
      )}
      {warnings.length > 0 && (
        <details class="notice warning">
          <summary>
            {warnings.length} {warnings.length === 1 ? 'warning' : 'warnings'}
          </summary>
          <ul>
            {warnings.map((warning) => (
              <li key={warning}>{warning}</li>
            ))}
          </ul>
        </details>
      )}
    </>
  )
}
