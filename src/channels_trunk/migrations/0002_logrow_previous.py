from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("channels_trunk", "0001_initial")]

    operations = [
        migrations.AddField(model_name="logrow", name="previous", field=models.BigIntegerField(null=True)),
    ]
