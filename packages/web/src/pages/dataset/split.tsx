/** Two data sets of one: to train on, and to hold out. */
import type { Dataset, SplitResponse } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { Dialog } from '../../components/dialog.tsx'
import { Field } from '../../components/field.tsx'
import { toastError } from '../../components/toast.tsx'
import { count, percent } from '../../format.ts'
import { client } from '../../session.ts'

export function SplitDialog({ dataset, onClose }: { dataset: Dataset; onClose: () => void }) {
  const [share, setShare] = useState('0.1')
  const [busy, setBusy] = useState(false)
  const [made, setMade] = useState<SplitResponse | null>(null)
  const number = Number(share)
  const wrong = number > 0 && number <= 0.5 ? null : 'A number above 0, and 0.5 at most'

  const split = async () => {
    if (wrong) return
    setBusy(true)
    try {
      setMade(await client.peek().datasets.split(dataset.id, { validation_share: number }))
    } catch (error) {
      toastError(error)
    } finally {
      setBusy(false)
    }
  }
  return (
    <Dialog
      title={made ? 'Split' : `Split ${dataset.name}`}
      onClose={onClose}
      footer={
        made ? (
          <>
            <Button onClick={onClose}>Stay here</Button>
            <Button
              variant="primary"
              icon="play"
              href={`/new?dataset=${made.train.id}&validation=${made.validation.id}`}
            >
              Train with both
            </Button>
          </>
        ) : (
          <>
            <Button onClick={onClose}>Cancel</Button>
            <Button variant="primary" busy={busy} disabled={wrong !== null} onClick={split}>
              Split
            </Button>
          </>
        )
      }
    >
      {made ? (
        <ul class="plain">
          {[made.train, made.validation].map(({ id, name, rows, origin }) => (
            <li key={id}>
              <a href={`/data/${id}`}>{name}</a>{' '}
              <span class="muted">
                {count(rows)} rows {origin?.part === 'train' ? 'to train on' : 'held out'}
              </span>
            </li>
          ))}
        </ul>
      ) : (
        <div class="stack">
          <p class="muted">
            Rows are chosen by what they say, so it is the same choice each time, also when rows are added, and the same
            as a run’s own “Hold out”.
          </p>
          <Field
            label="Share to hold out"
            error={wrong}
            hint={
              wrong
                ? undefined
                : `About ${count(Math.round(dataset.rows * number))} of ${count(dataset.rows)} rows (${percent(number * 100)})`
            }
          >
            {(props) => (
              <input
                {...props}
                inputMode="decimal"
                value={share}
                onInput={(event) => setShare(event.currentTarget.value.trim())}
              />
            )}
          </Field>
        </div>
      )}
    </Dialog>
  )
}
