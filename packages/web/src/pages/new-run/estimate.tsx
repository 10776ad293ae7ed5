/** Some steps are done for real, to tell time and memory of the whole run. */
import type { EstimateResponse, StartInput } from '@mlx-training/sdk'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Badge } from '../../components/badge.tsx'
import { Button } from '../../components/button.tsx'
import { Facts, Progress } from '../../components/facts.tsx'
import { count, megabytes, percent, short } from '../../format.ts'
import { client } from '../../session.ts'

export interface EstimateProps {
  request: StartInput
  disabled: boolean
  onError: (error: unknown) => void
}

export function Estimate({ request, disabled, onError }: EstimateProps) {
  const [result, setResult] = useState<{ of: string; measured: EstimateResponse } | null>(null)
  const [running, setRunning] = useState<AbortController | null>(null)
  const abort = useRef<AbortController | null>(null)
  useEffect(() => () => abort.current?.abort(), [])
  const { experiment_name: _, ...asked } = request
  const key = JSON.stringify(asked)

  const measure = async () => {
    const stop = new AbortController()
    abort.current = stop
    setRunning(stop)
    try {
      const measured = await client.peek().train.estimate(asked, { signal: stop.signal })
      setResult({ of: key, measured })
    } catch (error) {
      if (!stop.signal.aborted) onError(error)
    } finally {
      setRunning(null)
    }
  }
  const old = result !== null && result.of !== key
  return (
    <div class="stack tight" aria-live="polite">
      {running ? (
        <div class="row spread">
          <span class="row">
            <span class="spinner" aria-hidden="true" />
            Doing some real steps …
          </span>
          <Button size="small" onClick={() => running.abort()}>
            Cancel
          </Button>
        </div>
      ) : (
        <Button icon="refresh" wide disabled={disabled} onClick={measure}>
          {result ? 'Measure again' : 'Measure time and memory'}
        </Button>
      )}
      {result && (
        <div class={old ? 'stale stack tight' : 'stack tight'}>
          {old && <p class="notice">Measured with other settings than those of the form now.</p>}
          <Measured {...result.measured} />
        </div>
      )}
    </div>
  )
}

function Measured(of: EstimateResponse) {
  const { peak_memory_mb: peak, available_memory_mb: available } = of
  return (
    <>
      <div class="row spread">
        <strong class="estimate-time">{of.estimated_time}</strong>
        <Badge tone={of.fits ? 'good' : 'bad'}>{of.fits ? 'fits into memory' : 'does not fit into memory'}</Badge>
      </div>
      {peak !== null && (
        <div class="stack tight">
          <span class="small">
            {megabytes(peak)} of {megabytes(available)} of memory
          </span>
          <Progress value={Math.min(100, (peak / available) * 100)} label="Memory" />
        </div>
      )}
      <Facts
        facts={[
          ['Steps', `${count(of.total_steps)}, ${count(of.steps_per_epoch)} an epoch`],
          ['A step', of.seconds_per_step === null ? 'not measured' : `${Number(of.seconds_per_step.toPrecision(3))} s`],
          ['Speed', of.tokens_per_second === null ? 'not measured' : `${short(of.tokens_per_second)} tokens/s`],
          ['Rows', rowsOf(of)],
          ['Tokens', `${short(of.tokens)} an epoch, ${short(of.trained_tokens)} of them trained`],
          [
            'Trained weights',
            `${short(of.trainable_params)} of ${short(of.total_params)} (${percent((of.trainable_params / of.total_params) * 100, 2)})`,
          ],
        ]}
      />
      {of.advice.map((text) => (
        <p key={text} class="notice">
          {text}
        </p>
      ))}
      {of.warnings.length > 0 && (
        <details class="notice warning">
          <summary>{of.warnings.length === 1 ? '1 warning' : `${count(of.warnings.length)} warnings`}</summary>
          <ul>
            {of.warnings.map((text) => (
              <li key={text}>{text}</li>
            ))}
          </ul>
        </details>
      )}
    </>
  )
}

function rowsOf({ samples, samples_dropped, samples_truncated }: EstimateResponse): string {
  const aside = [
    samples_dropped > 0 && `${count(samples_dropped)} left out`,
    samples_truncated > 0 && `${count(samples_truncated)} cut`,
  ].filter(Boolean)
  return [count(samples), ...aside].join(', ')
}
