import { useState } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { toastError } from '../../components/toast.tsx'
import { saveFile } from '../../save-file.ts'
import { client } from '../../session.ts'

/** A tar of what the experiment has learned, or had at the checkpoint of `step`. */
export function Download({ name, step }: { name: string; step?: number }) {
  const [busy, setBusy] = useState(false)
  const download = async () => {
    setBusy(true)
    try {
      const answer = await client.peek().train.model(name, step === undefined ? {} : { step })
      await saveFile(answer, step === undefined ? `${name}.tar` : `${name}-step-${step}.tar`)
    } catch (error) {
      toastError(error)
    } finally {
      setBusy(false)
    }
  }
  return (
    <Button size="small" icon="download" busy={busy} onClick={download}>
      {step === undefined ? 'Download the result' : 'Download'}
    </Button>
  )
}
