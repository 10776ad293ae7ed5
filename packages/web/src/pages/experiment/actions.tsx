/** What can be done with an experiment in the state that it is in, and with the key that is used. */
import type { JobState, MlxTraining, StatusResponse } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { confirm } from '../../components/dialog.tsx'
import type { IconName } from '../../components/icon.tsx'
import { toast, toastError } from '../../components/toast.tsx'
import { navigate } from '../../router.ts'
import { can, client } from '../../session.ts'

type Command = 'stop' | 'pause' | 'resume'

const COMMANDS: { command: Command; label: string; icon: IconName; states: JobState[] }[] = [
  { command: 'pause', label: 'Pause', icon: 'pause', states: ['queued', 'preparing', 'running'] },
  { command: 'resume', label: 'Resume', icon: 'play', states: ['paused', 'stopped', 'failed'] },
  { command: 'stop', label: 'Stop', icon: 'stop', states: ['queued', 'preparing', 'running', 'paused'] },
]
const ENDED: JobState[] = ['completed', 'stopped', 'failed']

export function Actions({ status, refresh }: { status: StatusResponse; refresh: () => void }) {
  const [busy, setBusy] = useState<string | null>(null)
  const name = status.experiment_name
  const carryOut = async (label: string, work: (client: MlxTraining) => Promise<{ message: string }>) => {
    setBusy(label)
    try {
      toast((await work(client.value)).message)
      return true
    } catch (error) {
      toastError(error)
      return false
    } finally {
      setBusy(null)
      refresh()
    }
  }
  const remove = async () => {
    const sure = await confirm({
      title: `Delete ${name}?`,
      text: 'Its history, its checkpoints and its model are deleted for good. Files that it did not make stay.',
      action: 'Delete',
      danger: true,
    })
    if (sure && (await carryOut('delete', (client) => client.train.delete(name)))) navigate('/')
  }
  return (
    <>
      {can('generate') && status.checkpoints.length > 0 && (
        <Button icon="chat" href={`/playground?model=${encodeURIComponent(`fine-tuned/${name}`)}`}>
          Try it
        </Button>
      )}
      {can('train') && (
        <>
          {COMMANDS.filter(({ states }) => states.includes(status.status)).map(({ command, label, icon }) => (
            <Button
              key={command}
              icon={icon}
              busy={busy === command}
              onClick={() => carryOut(command, (client) => client.train[command](name))}
            >
              {label}
            </Button>
          ))}
          <Button icon="copy" href={`/new?from=${encodeURIComponent(name)}`}>
            Clone
          </Button>
          {ENDED.includes(status.status) && (
            <Button icon="trash" busy={busy === 'delete'} onClick={remove}>
              Delete
            </Button>
          )}
        </>
      )}
    </>
  )
}
