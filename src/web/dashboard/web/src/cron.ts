/** Cron patterns in plain words, where they are plain; else the pattern itself. */
const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

const isNumber = (text: string): boolean => /^\d+$/.test(text);

const every = (text: string): number | undefined => {
  const found = /^\*\/(\d+)$/.exec(text);
  return found ? Number(found[1]) : undefined;
};

export function cronWords(pattern: string): string {
  const fields = pattern.trim().split(/\s+/);
  if (fields.length !== 5) return pattern;
  const [minute, hour, day, month, weekday] = fields;
  if (month !== "*") return pattern;
  const anyDay = day === "*" && weekday === "*";
  if (anyDay && hour === "*") {
    if (minute === "*") return "every minute";
    const minutes = every(minute);
    if (minutes !== undefined) return `every ${minutes} minutes`;
    return isNumber(minute) ? `every hour at :${minute.padStart(2, "0")}` : pattern;
  }
  const hours = every(hour);
  if (anyDay && hours !== undefined && isNumber(minute)) return `every ${hours} hours at :${minute.padStart(2, "0")}`;
  if (!isNumber(minute) || !isNumber(hour)) return pattern;
  const time = `${hour.padStart(2, "0")}:${minute.padStart(2, "0")}`;
  if (anyDay) return `every day at ${time}`;
  if (day === "*" && isNumber(weekday) && Number(weekday) <= 7) return `every ${DAYS[Number(weekday)]} at ${time}`;
  if (day === "*" && weekday === "1-5") return `Monday to Friday at ${time}`;
  if (weekday === "*" && isNumber(day)) return `on day ${day} of every month at ${time}`;
  return pattern;
}
