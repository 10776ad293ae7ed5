import { Button } from '../../components/button.tsx'
import { Card } from '../../components/facts.tsx'
import { Icon, type IconName } from '../../components/icon.tsx'
import { can } from '../../session.ts'

const STEPS: {
  icon: IconName
  title: string
  text: string
  href: string
  action: string
  scope: 'train' | 'generate'
}[] = [
  {
    icon: 'table',
    title: '1. Look at your data',
    text: 'Upload a file of examples: examples/service_alpaca.json came with the server. Every row is checked, and you see which words the model will learn from.',
    href: '/data',
    action: 'Data sets',
    scope: 'train',
  },
  {
    icon: 'play',
    title: '2. Start a run',
    text: 'Choose a model and a preset. Time and memory are measured before anything starts.',
    href: '/new',
    action: 'New run',
    scope: 'train',
  },
  {
    icon: 'chat',
    title: '3. Talk to the result',
    text: 'Ask the tuned model and its base the same question, side by side.',
    href: '/playground',
    action: 'Playground',
    scope: 'generate',
  },
]

/** For somebody who has not trained anything yet. */
export function FirstSteps() {
  return (
    <div class="first-steps">
      <div class="empty">
        <span class="empty-icon">
          <Icon name="chart" size={28} />
        </span>
        <h2>Nothing has been trained here yet</h2>
        <p class="muted">
          A first run takes a few minutes: the small model that came with the server is enough to see it work.
        </p>
      </div>
      <div class="grid">
        {STEPS.map(({ icon, title, text, href, action, scope }) => (
          <Card key={href}>
            <div class="stack">
              <span class="empty-icon">
                <Icon name={icon} size={26} />
              </span>
              <h3>{title}</h3>
              <p class="muted">{text}</p>
              {can(scope) && (
                <Button href={href} variant={href === '/new' ? 'primary' : 'secondary'}>
                  {action}
                </Button>
              )}
            </div>
          </Card>
        ))}
      </div>
    </div>
  )
}
